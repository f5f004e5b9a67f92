import "../on-ecs.ts";
import "../../api/users.test.ts";
