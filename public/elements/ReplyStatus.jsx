// Chainlit compiles this in the browser for every reply that it draws, so it is as short as can be: the line itself is
// public/page/reply-status.js.
import * as React from 'react';
import { useRecoilValue } from 'recoil';
import { currentThreadIdState } from '@chainlit/react-client';

export default function ReplyStatus() {
  return window.replyStatus(React, props, useRecoilValue(currentThreadIdState), callAction);
}
