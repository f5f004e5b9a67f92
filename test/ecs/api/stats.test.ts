import "../on-ecs.ts";
import "../../api/stats.test.ts";
