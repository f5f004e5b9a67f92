/** Where agents listen in their tasks. */
export const AGENT_PORT = 9111;
