import "../on-ecs.ts";
import "../../api/whole-clients.test.ts";
