import "../on-ecs.ts";
import "../../api/logs.test.ts";
