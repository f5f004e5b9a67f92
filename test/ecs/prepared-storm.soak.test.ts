import { claimsStorm } from "../prepared/claims-storm.ts";
import { poolOnEcs } from "../prepared/pool-cloud.ts";

claimsStorm(poolOnEcs);
