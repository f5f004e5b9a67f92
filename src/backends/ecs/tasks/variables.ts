/** The environment with which a task is started: who its container is, who may talk to its agent, how long that waits to be told what to run, and how much output it keeps. */

export const containerVariable = "SOCKERLESS_CONTAINER_ID";
export const generationVariable = "SOCKERLESS_GENERATION";
export const pinVariable = "SOCKERLESS_CLIENT_CA_PIN";
export const startTimeoutVariable = "SOCKERLESS_START_TIMEOUT";
export const stopSignalVariable = "SOCKERLESS_STOP_SIGNAL";
export const logSizeVariable = "SOCKERLESS_LOG_MAX_SIZE";
export const logFilesVariable = "SOCKERLESS_LOG_MAX_FILES";
