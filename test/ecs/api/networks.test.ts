import "../on-ecs.ts";
import "../../api/networks.test.ts";
