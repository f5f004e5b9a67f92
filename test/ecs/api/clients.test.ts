import "../on-ecs.ts";
import "../../api/clients.test.ts";
