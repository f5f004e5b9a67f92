import { preparedTasks } from "../prepared/prepared-tasks.ts";
import { poolOnEcs } from "../prepared/pool-cloud.ts";

preparedTasks(poolOnEcs);
