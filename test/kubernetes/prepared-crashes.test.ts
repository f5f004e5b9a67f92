import { killedClaims } from "../prepared/crashes.ts";
import { poolOnKubernetes } from "../prepared/pool-cloud.ts";

killedClaims(poolOnKubernetes);
