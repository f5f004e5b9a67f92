import { killedClaims } from "../prepared/crashes.ts";
import { poolOnEcs } from "../prepared/pool-cloud.ts";

killedClaims(poolOnEcs);
