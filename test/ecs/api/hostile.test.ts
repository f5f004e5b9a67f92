import "../on-ecs.ts";
import "../../api/hostile.test.ts";
