import "../on-ecs.ts";
import "../../api/archive-calls.test.ts";
