import "../on-ecs.ts";
import "../../api/exec.test.ts";
