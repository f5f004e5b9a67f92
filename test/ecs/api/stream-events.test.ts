import "../on-ecs.ts";
import "../../api/stream-events.test.ts";
