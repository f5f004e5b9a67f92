import "../on-ecs.ts";
import "../../api/attach.test.ts";
