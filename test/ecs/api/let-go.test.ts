/** All on ECS that an answered removal has let go. */
import "../on-ecs.ts";

await import("../../api/let-go.test.ts");
