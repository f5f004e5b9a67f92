import "../on-ecs.ts";
import "../../api/changes.test.ts";
