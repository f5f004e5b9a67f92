import { killedClaims } from "../prepared/crashes.ts";
import { poolOnAca } from "../prepared/pool-cloud.ts";

killedClaims(poolOnAca);
