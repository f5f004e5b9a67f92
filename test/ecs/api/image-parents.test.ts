import "../on-ecs.ts";
import "../../api/image-parents.test.ts";
