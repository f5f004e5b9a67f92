import "../on-ecs.ts";
import "../../api/events.test.ts";
