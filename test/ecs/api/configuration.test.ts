import "../on-ecs.ts";
import "../../api/configuration.test.ts";
