import "../on-ecs.ts";
import "../../api/docker-py.test.ts";
