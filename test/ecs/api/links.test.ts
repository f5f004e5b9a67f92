import "../on-ecs.ts";
import "../../api/links.test.ts";
