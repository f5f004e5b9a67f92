import "../on-ecs.ts";
import "../../api/volumes.test.ts";
