import "../on-ecs.ts";
import "../../api/storm.test.ts";
