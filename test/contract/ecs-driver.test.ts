import { driverContract } from "./driver-contract.ts";
import { ecsDriver } from "./ecs-driver.ts";

driverContract("ecs", ecsDriver);
