/**
 * The driver whose agents call (`ecs.agent_mode: callback`), in subnets that let nothing in: `npm test` has the driver that
 * reaches its agents, and `test/ecs/callback.test.ts`.
 */
import { callingAgents } from "../support/calling-agents.ts";
import { driverContract } from "./driver-contract.ts";
import { ecsDriver } from "./ecs-driver.ts";

driverContract("callback-mode ecs", () => ecsDriver(callingAgents));
