import { preparedTasks } from "../prepared/prepared-tasks.ts";
import { poolOnAca } from "../prepared/pool-cloud.ts";

preparedTasks(poolOnAca);
