import "../on-ecs.ts";
import "../../api/apart.test.ts";
