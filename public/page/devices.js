// Other devices that show the visitor's conversations: personal links, and the browsers that have opened one.
import { ask } from './ask.js';
import { button, notice, question, run } from './dialog.js';
import { fresh, make } from './dom.js';
import { section } from './section.js';
import { moment, words } from './words.js';

// The code stands behind a #: a browser sends that to no server, so it is in no log.
const addressOf = (code) => `${window.location.origin}/#join=${code}`;

// What a new link is shown in; its code is told only once.
const linkField = ({ code, expires_at: until }) => {
  const { devices } = words();
  const { line, say } = notice();
  const field = make('input', 'box-input', { type: 'text', readonly: '', 'aria-label': devices.link });
  field.value = addressOf(code);
  field.addEventListener('focus', () => field.select());
  const write = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      return devices.notCopied;
    }
    return devices.copied;
  };
  const copy = button(devices.copy, 'main', () => run(copy, say, write));
  return [make('div', 'box-row', {}, field, copy), line, make('p', '', {}, devices.warn(moment(until)))];
};

const list = (title, items) =>
  items.length > 0 && [make('h4', 'box-subheading', {}, title), make('ul', 'box-list', {}, ...items)];

const item = (name, more, action) =>
  make('li', 'box-item', {}, make('div', '', {}, make('div', '', {}, name), make('small', '', {}, more)), action);

const named = (node, name) => {
  node.setAttribute('aria-label', name);
  return node;
};

const links = (me, does, anew, made) =>
  me.links.map(({ id, created_at: at, expires_at: until }) => {
    const { devices } = words();
    const revoke = async () => {
      await ask('DELETE', `/api/me/links/${id}`);
      if (made.dataset.link === id) made.replaceChildren();
      await anew();
    };
    const action = named(does(devices.revoke, 'small', revoke), devices.revokeOf(moment(at)));
    return item(devices.made(moment(at)), devices.until(moment(until)), action);
  });

const browsers = (me, does, anew, made) =>
  me.devices.map(({ id, name, joined_at: at, this: self }) => {
    const { devices } = words();
    const remove = async () => {
      await ask('DELETE', `/api/me/devices/${id}`);
      made.replaceChildren(); // the links have ended with it
      await anew();
    };
    const shown = name === '?' ? devices.unnamed : name; // as the server calls one that says nothing
    const here = self && make('small', 'box-self', {}, devices.self);
    const action = !me.joined && named(does(devices.remove, 'small', remove), devices.removeOf(shown, moment(at)));
    return item(shown, devices.since(moment(at)), here || action || '');
  });

const leaving = (me) => {
  const { leave } = words().devices;
  const self = me.devices.find((device) => device.this);
  const go = async () => {
    await ask('DELETE', `/api/me/devices/${self.id}`);
    return fresh();
  };
  question(leave.title, [leave.text], [{ label: words().cancel }, { label: leave.go, kind: 'main', act: go }]);
};

// `made`: a node that shows the link that has just been made, as long as the window is open; `anew` draws the rest.
export const devicesSection = (me, anew, made) => {
  const { devices } = words();
  const { root, line, does } = section('devices', devices.title);
  const link = does(devices.make, '', async () => {
    const created = await ask('POST', '/api/me/links');
    made.dataset.link = created.id;
    made.replaceChildren(...linkField(created));
    await anew();
    made.querySelector('input').focus();
  });
  const joined = list(devices.browsers, browsers(me, does, anew, made)) || [];
  if (me.joined) {
    // Links and the other browsers are the owner's, whose browser this is not.
    const leave = button(devices.leave.open, '', () => leaving(me));
    root.append(make('div', 'box-item', {}, make('p', '', {}, devices.joined), leave), line, ...joined);
    return root;
  }
  root.append(
    make('p', '', {}, devices.explain),
    make('div', 'box-buttons', {}, link),
    made,
    line,
    ...(list(devices.links, links(me, does, anew, made)) || []),
    ...joined,
    ...(joined.length > 0 ? [make('p', '', {}, devices.removeEnds)] : []),
  );
  return root;
};
