import "../on-ecs.ts";
import "../../api/restart-policy.test.ts";
