/** Starts on ECS that a kill interrupts; `npm test` has those on this machine. */
import "./on-ecs.ts";
import "../fault/lost-starts.test.ts";
