import "../on-ecs.ts";
import "../../api/run.test.ts";
