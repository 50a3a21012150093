// What the page does beyond Chainlit's own script, one file for each thing. As a module it runs before that script.
import './page/theme.js';
import './page/language.js';
import './page/banner.js';
import './page/clipboard.js';
import './page/reply-status.js';
import './page/return.js';
import './page/my-data.js';
import './page/login.js';
