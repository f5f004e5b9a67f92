import "../on-ecs.ts";
import "../../api/start-phases.test.ts";
