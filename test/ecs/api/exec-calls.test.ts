import "../on-ecs.ts";
import "../../api/exec-calls.test.ts";
