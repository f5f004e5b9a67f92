import "../on-ecs.ts";
import "../../api/limits.test.ts";
