import "../on-ecs.ts";
import "../../api/image-verbs.test.ts";
