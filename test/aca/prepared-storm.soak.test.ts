import { claimsStorm } from "../prepared/claims-storm.ts";
import { poolOnAca } from "../prepared/pool-cloud.ts";

claimsStorm(poolOnAca);
