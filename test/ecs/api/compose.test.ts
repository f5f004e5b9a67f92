import "../on-ecs.ts";
import "../../api/compose.test.ts";
