/** The environment with which a task is started: who its container is, who may talk to its agent, how long that waits to be told what to run, and how much output it keeps. */

export const CONTAINER_VARIABLE = "SOCKERLESS_CONTAINER_ID";
export const GENERATION_VARIABLE = "SOCKERLESS_GENERATION";
export const PIN_VARIABLE = "SOCKERLESS_CLIENT_CA_PIN";
export const START_TIMEOUT_VARIABLE = "SOCKERLESS_START_TIMEOUT";
export const STOP_SIGNAL_VARIABLE = "SOCKERLESS_STOP_SIGNAL";
export const LOG_SIZE_VARIABLE = "SOCKERLESS_LOG_MAX_SIZE";
export const LOG_FILES_VARIABLE = "SOCKERLESS_LOG_MAX_FILES";
