import "../on-ecs.ts";
import "../../api/listing.test.ts";
