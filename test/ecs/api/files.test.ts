import "../on-ecs.ts";
import "../../api/files.test.ts";
