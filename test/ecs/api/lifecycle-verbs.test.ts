import "../on-ecs.ts";
import "../../api/lifecycle-verbs.test.ts";
