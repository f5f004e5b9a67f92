import "../on-ecs.ts";
import "../../api/seccomp.test.ts";
