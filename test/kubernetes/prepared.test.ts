import { preparedTasks } from "../prepared/prepared-tasks.ts";
import { poolOnKubernetes } from "../prepared/pool-cloud.ts";

preparedTasks(poolOnKubernetes);
