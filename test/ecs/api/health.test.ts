import "../on-ecs.ts";
import "../../api/health.test.ts";
