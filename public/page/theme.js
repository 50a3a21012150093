// Light or dark as the visitor's system has it, until they choose. Chainlit knows that choice, but cannot be set to it.
const CHOICE = 'vite-ui-theme';

if (localStorage.getItem(CHOICE) === null) localStorage.setItem(CHOICE, 'system');
