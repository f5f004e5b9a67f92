/** TCP port on which every agent listens in its task. */
export const agentPort = 9111;
