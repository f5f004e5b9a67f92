/** Where agents listen in their tasks. */
export const agentPort = 9111;
