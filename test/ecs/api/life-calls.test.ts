import "../on-ecs.ts";
import "../../api/life-calls.test.ts";
