import "../on-ecs.ts";
import "../../api/images.test.ts";
