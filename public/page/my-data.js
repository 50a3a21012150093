// "My data" in the page's header: the visitor's conversations, devices and account.
import { accountSection } from './account.js';
import { arrived } from './arrival.js';
import { allSection, conversationSection } from './conversations.js';
import { devicesSection } from './devices.js';
import { button, notice, openDialog, run } from './dialog.js';
import { icon, make } from './dom.js';
import { signedIn, whoAmI } from './me.js';
import { keep } from './places.js';
import { words } from './words.js';

const DISK = 'M3 5v14a9 3 0 0 0 18 0V5a9 3 0 0 1-18 0 9 3 0 0 1 18 0M3 12a9 3 0 0 0 18 0';

const sections = (me, anew, made) => {
  const shown = me.history
    ? [conversationSection(), allSection(me), me.kind === 'anonymous' && devicesSection(me, anew, made)]
    : [make('p', '', {}, words().data.off)];
  return [...shown, signedIn(me) && accountSection(me)].filter(Boolean);
};

const open = () => {
  const { body } = openDialog(words().data.title, { kind: 'my-data', light: true });
  const { line, say } = notice();
  const made = make('div', 'box-link');
  const again = button(words().again, '', () => fill());
  // What was there stays until the new is: the focus is given back to the section that it was in.
  const anew = async () => {
    const me = await whoAmI();
    const focused = document.activeElement?.closest('.box-section')?.dataset.section;
    body.replaceChildren(...sections(me, anew, made));
    if (focused) body.querySelector(`[data-section="${focused}"] h3`)?.focus();
  };
  const fill = () => {
    body.replaceChildren(line, again);
    again.hidden = true;
    run(again, say, async () => {
      say(words().loading);
      await anew();
    }).then((done) => {
      again.hidden = done;
    });
  };
  fill();
};

const attributes = { id: 'my-data-button', type: 'button', 'aria-haspopup': 'dialog' };
const opener = make('button', 'my-data-button', attributes, icon(DISK));
opener.addEventListener('click', open);
keep(opener, () => {
  const toggle = document.getElementById('theme-toggle');
  if (!toggle) return;
  opener.title = words().data.title;
  opener.setAttribute('aria-label', words().data.title);
  toggle.before(opener);
  arrived();
});
