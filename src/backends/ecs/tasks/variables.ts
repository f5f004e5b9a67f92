/** The environment with which a task is started: who its container is, and who may talk to its agent. */

export const CONTAINER_VARIABLE = "SOCKERLESS_CONTAINER_ID";
export const GENERATION_VARIABLE = "SOCKERLESS_GENERATION";
export const PIN_VARIABLE = "SOCKERLESS_CLIENT_CA_PIN";
export const STOP_SIGNAL_VARIABLE = "SOCKERLESS_STOP_SIGNAL";
